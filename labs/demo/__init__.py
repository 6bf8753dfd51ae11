"""The main job, run on a lab and shown proof by proof."""
