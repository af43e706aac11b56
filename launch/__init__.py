"""One program per stage of the loop: the only room that touches devices, disks and flags."""

import data  # noqa: F401  before any program imports Arrow: see there
