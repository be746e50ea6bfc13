"""How a program is told: every event in order and at each listener's own pace.

mailbox.py holds what one has not heard yet, delivery.py and dispatch.py call it.
"""
