"""The main job, run on a lab and shown proof by proof."""

from phalanx.labs.demo.show import run as run
