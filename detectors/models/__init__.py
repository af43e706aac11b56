"""Networks of the detectors, for images and volumes alike."""
