"""The paper's table, and ours beside it."""

import json

from experiments import vgg_table3


def test_our_errors_stand_in_the_row_of_their_run(tmp_path):
    (tmp_path / "vgg_d_384").mkdir()
    result = {"last": {"top1_error": 0.25, "top5_error": 0.0625}, "dataset": "shapes"}
    (tmp_path / "vgg_d_384" / "result.json").write_text(json.dumps(result))
    table = {(row[0], row[1]): row[2:] for row in vgg_table3.rows(tmp_path)}
    assert table["D", "384"] == (384, 26.8, 8.7, 25.0, 6.25, "shapes")
    assert table["E", "[256;512]"] == (384, 25.5, 8.0, None, None, "")
    assert len(table) == 12
