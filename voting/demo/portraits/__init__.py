"""Portraits of the demo campaign, drawn by the project.

python -m voting.demo.portraits.draw            writes the SVGs of this folder
python -m voting.demo.portraits.draw --render   and the JPEGs of ../photos, by headless Chromium
"""
