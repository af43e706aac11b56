"""Terms by which reports of chest X-rays are labelled: pneumonia, effusion, pneumothorax, or none.

Command:   python -m launch.label_reports --config=configs/chest_reports.py \
               --reports=reports.csv --labels_to=labels
Score:     not measured on a public set of reports; read labels/audit.csv before use
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the defaults with terms; each class has its own, in lower case."""
    config = default.get_config()
    config.reports.normal = "no_finding"
    config.reports.findings = ml_collections.ConfigDict(
        {
            "pneumonia": ("pneumonia*", "consolidation*", "infectious infiltrate*"),
            "effusion": ("pleural effusion*", "effusion*", "pleural fluid"),
            "pneumothorax": ("pneumothorax", "pneumothoraces"),
        }
    )
    return config
