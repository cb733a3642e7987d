"""Close, pin and connect-failure reasons: C constants and IntEnums from one list (see `_reasons.pxd`, `reasons.py`)."""
