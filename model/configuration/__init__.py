"""What options are made of: checked fields, names of norms, recipes, yaml files."""
