"""One program per stage of the loop: the only room that touches devices, disks and flags."""
