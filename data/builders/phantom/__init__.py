"""A chest phantom whose truth is known: anatomy, lesions, faults and what an analyser measures.

Everything is a pure function of seed, patient and visit, made with NumPy alone.
"""
