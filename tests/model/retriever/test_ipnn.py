"""The law of IPNN: one inner product is the weighted sum over all pairs of fields."""

from __future__ import annotations

import torch

from model.retriever.ipnn import Ipnn


def test_inner_product_equals_the_double_sum() -> None:
    torch.manual_seed(0)
    ipnn = Ipnn(user_fields=5, ad_fields=3, rank=2).double()
    users, ads = torch.randn(4, 5, 6).double(), torch.randn(7, 3, 6).double()
    product = ipnn.user(users) @ ipnn.ad(ads).T
    wanted = torch.zeros(4, 7, dtype=torch.float64)
    for i in range(5):
        for j in range(3):
            wanted += ipnn.weights()[i, j] * (users[:, i] @ ads[:, j].T)
    torch.testing.assert_close(product, wanted, rtol=1e-12, atol=1e-12)
