"""Several runs as one resumable whole: folds of a folder, the ablation of the roadmap."""
