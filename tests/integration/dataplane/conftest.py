"""libuv makes a pipe for signals once per process and keeps it: not a leak of the test that happens to come first."""

import uvloop

uvloop.new_event_loop().close()
