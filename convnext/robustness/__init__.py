"""How a checkpoint fares on harder pictures: ImageNet's suites (Table 8), and corrupted copies of a folder."""
