"""ConvNeXt: the models, recipes and the everyday job around them."""
