"""What the data plane needs to know of each engine family: how its clients and servers are read, paired and parted.

Each family is a package that fills in the table `dataplane/_engine.pxd` (compiled) and `dataplane/family.py` (the front
thread's side), over its protocol in `proxy/pgsql` or `proxy/mysql`.
"""
