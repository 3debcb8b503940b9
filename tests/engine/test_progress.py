from echo_embeddings.engine.progress import progress


def test_a_function_is_told_how_many_texts_are_done():
    told = []
    with progress(3, told.append) as advance:
        advance(2)
        advance(1)
    assert told == [2, 1]


def test_a_bar_is_shown_only_when_asked_for(capsys):
    with progress(3, show=False) as advance:
        advance(3)
    assert capsys.readouterr().err == ""
    with progress(3, show=True) as advance:
        advance(3)
    assert "3/3" in capsys.readouterr().err
