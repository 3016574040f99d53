"""From rows to a page that says what they mean: which drafter is worth its price, and where that ends."""
