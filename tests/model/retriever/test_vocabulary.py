"""Claims about vocabularies: known values have their row, all others share their field's."""

from __future__ import annotations

import numpy as np

from model.retriever.vocabulary import Vocabulary


def test_rare_and_missing_values_share_the_row_of_their_field() -> None:
    columns = np.array([[7, 3], [7, 3], [9, 3], [0, 5], [0, 5]])
    vocabulary = Vocabulary.of(columns, 2)
    assert vocabulary.ids.tolist() == [3, 5, 7]
    assert len(vocabulary) == 5
    assert vocabulary.rows(columns).tolist() == [[2, 0], [2, 0], [3, 0], [3, 1], [3, 1]]


def test_empty_vocabulary_answers() -> None:
    vocabulary = Vocabulary.of(np.zeros((0, 2), np.int64), 1)
    assert vocabulary.rows(np.array([[4, 4]])).tolist() == [[0, 1]]
