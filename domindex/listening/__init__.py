"""How events reach a program: every event, in order, at each listener's own pace.

hub.py has everyone who listens; mailbox.py holds what one listener has not handled yet; a
runner (runner.py, dispatch.py) calls its handler.
"""
