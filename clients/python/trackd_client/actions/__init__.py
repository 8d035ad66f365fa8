"""What a firing sends: one file per kind of action. `action.py` is the contract, `actions.py` the table."""
