"""`meshd demo`: a mesh of three real daemons on this host works through a project, and loses its primary on the way.

`instances` starts and ends the processes, `agent` is what they run for each phase, `watch` asks their APIs, `progress`
reads the phases out of what they answer, `witness` holds what the agents did against it, `story` tells what happens and
checks it, `screen` shows it, `stage` ties them together and cleans up.
"""
