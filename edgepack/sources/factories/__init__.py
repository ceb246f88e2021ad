"""What a model of a factory is made of: `code` is the user's own, `state_dict` the values that its network starts from."""
