"""Pictures made by formulas, to pre-train on where no photograph may be or can be had: shapes, textures, colours.

What the literature knows of such data is what these are made from: the classes are parameters of a formula (Kataoka et
al., "Pre-training without natural images", 2020: fractals; Takashima et al., "Visual atoms", 2023: contours), and what
makes pictures alike to natural ones are occlusion, spectra and structure (Baradad et al., "Learning to see by looking
at noise", 2021). Each picture is a pure function of (seed, index), so nothing is stored.
"""
