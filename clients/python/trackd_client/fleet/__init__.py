"""Where the streams of a fleet are, and the requests and connections that follow them from member to member."""
