"""Cost experiments: which drafters on which cards, how many, and whether they pay beside the target alone."""
