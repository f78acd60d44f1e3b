"""`meshd demo`: a mesh of three real daemons on this host, a document that travels, a death and a return.

`instances` starts and ends the processes, `watch` asks their APIs, `story` tells what happens and checks it, `screen`
shows it, `command` ties them together and cleans up.
"""
