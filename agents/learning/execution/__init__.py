"""The ways to run an update: plain, recorded, compiled, or shared by several learners."""
