"""What experiments have in common: a task, its network and images, and one way to train and to read it.

``task``: networks and images of all experiments but those on Iris. ``kept``: the digital network, trained
once for all who ask. ``aging``: chips of cells that drift. ``iris``: small networks, many seeds side by side.
``results``: what goes into a record.
"""
