"""Functions of torch and torch.nn.functional that a Graph may call: one wiring of one step each."""
CASES = []
