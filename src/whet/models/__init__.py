"""Base models as policies: loading, templates, saving, and the built-in ones."""

import logging

for _name in (
    "torchao",
    "torch.utils._pytree",
):  # transformers imports torchao where it is there, and it speaks of other machines
    logging.getLogger(_name).setLevel(logging.ERROR)
