"""The methods of the papers, one file each: what a method trains on, as an objective of ``fit``.

Import a method from its own file, so that a result depends on no method but its own.
"""
