"""Run in the environment of what they are made of: no import of the lab, nor of each other's."""
