"""The learned half of Headwater: a retriever and a ranker over one feature schema.

Owns schemas, raw ids, training tables, checkpoints and both models. Promises that training and
serving turn the same strings into the same numbers by the same code. Kafka, the index and HTTP
belong to others; importing this package alone loads no torch.
"""
