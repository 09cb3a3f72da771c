"""What a sync shows of itself while it runs and afterwards: logs, metrics, spans, alerts and the page of a run.

Nothing here decides what is sent, and nothing here can end a run: what cannot be shown becomes a warning. Counts,
ids, codes and times go out; addresses, values of fields and secrets do not, and `redaction` is the wall behind that.
"""
