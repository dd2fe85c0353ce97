"""Segmentation scores by hand; label ids of each data set; models of one's own."""

import contextlib
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from common import ROUNDING, Call, refuses

from model.errors import UserError
from model.metrics import predictors
from model.metrics.predictors import FunctionPredictor, InputFormat, class_maps, load_predictor
from model.metrics.segmentation import CITYSCAPES_TRAIN, confusion_matrix, scheme_of, segmentation_scores
from model.serving.runtime import program_file

# ---- scores ----


def test_scores_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, 9, 9, -1]])
    prediction = np.array([[0, 0, 1, 1], [2, 0, 1, 2]])
    confusion = confusion_matrix(truth, prediction, 4)
    np.testing.assert_array_equal(confusion[:3, :3], [[2, 1, 0], [0, 1, 1], [0, 0, 0]])
    scores = segmentation_scores(confusion)
    assert scores.pixel_accuracy == pytest.approx(3 / 5)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.mean_iou == pytest.approx((2 / 3 + 1 / 3) / 2)  # class 2 is only predicted, class 3 nowhere
    assert scores.fw_iou == pytest.approx(3 / 5 * 2 / 3 + 2 / 5 * 1 / 3)
    np.testing.assert_allclose(scores.class_iou, [2 / 3, 1 / 3, 0, np.nan])


def test_what_cannot_be_scored_is_refused():
    refuses("cannot be compared", confusion_matrix, np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    refuses(r"predicts the id 7; expected 0\.\.1", confusion_matrix, np.zeros((1, 2), int), np.array([[0, 7]]), 2)
    confusion_matrix(np.full((1, 2), 255), np.array([[0, 7]]), 2)  # nobody looks at dropped pixels
    refuses("no pixel", segmentation_scores, np.zeros((3, 3), np.int64))


# ---- label ids ----


def scheme_for(dataset_mode, label_nc, classes):
    return scheme_of(SimpleNamespace(classes=classes), dataset_mode, label_nc, size=None)


def test_coco_classes_are_the_label_ids():
    scheme = scheme_for("coco_stuff", 182, 182)
    np.testing.assert_array_equal(scheme.truth(np.array([[0, 181, 182, 255]])), [[0, 181, -1, -1]])
    assert (scheme.names[0], scheme.names[156]) == ("person", "sky-other")


@pytest.mark.parametrize("classes, first", [(150, 0), (151, 1)])
def test_ade20k_drops_other(classes, first):
    scheme = scheme_for("ade20k", 150, classes)
    np.testing.assert_array_equal(scheme.truth(np.array([[0, 1, 150, 255]])), [[-1, first, first + 149, -1]])
    assert (scheme.names[first], scheme.counted.sum()) == ("wall", 150)
    assert scheme.label_ids(np.array([first]))[0] == 1


def test_cityscapes_counts_the_19_classes_of_its_benchmark():
    labels = np.arange(35)[None]
    train = scheme_for("cityscapes", 35, 19)
    np.testing.assert_array_equal(np.flatnonzero(train.truth(labels)[0] >= 0), CITYSCAPES_TRAIN)
    assert (train.names[0], train.names[10], train.names[18]) == ("road", "sky", "bicycle")
    assert train.label_ids(np.array([0, 18])).tolist() == [7, 33]
    full = scheme_for("cityscapes", 35, 34)
    np.testing.assert_array_equal(full.truth(labels)[0, :34], np.where(full.counted, np.arange(34), -1))


def test_network_of_another_data_set_is_refused():
    refuses("150 classes; dataset_mode coco_stuff expects 182", scheme_for, "coco_stuff", 182, 150)
    refuses("expects 19, 34 or 35", scheme_for, "cityscapes", 35, 182)


# ---- predictors ----


def test_scores_of_another_size_are_resized_before_the_argmax():
    scores = np.zeros((1, 2, 1, 2), np.float32)
    scores[0, 0, 0], scores[0, 1, 0] = [4, 0], [0, 1]
    # Sampled at 0, 0, 1/8, 3/8, 5/8, 7/8, 1, 1 of the way from scores (4, 0) to (0, 1): class 1 leads past 4/5.
    np.testing.assert_array_equal(class_maps(scores, (1, 8))[0, 0], [0, 0, 0, 0, 0, 1, 1, 1])
    ids = np.array([[[3, 5]]])
    np.testing.assert_array_equal(class_maps(ids, (2, 4)), [[[3, 3, 5, 5], [3, 3, 5, 5]]])


def test_input_format():
    pictures = np.full((1, 4, 6, 3), [255, 0, 51], np.uint8)
    x = InputFormat(mean=(0.5, 0, 0), std=(0.5, 1, 2), size=(2, 3))(pictures)
    assert x.shape == (1, 3, 2, 3) and x.dtype == np.float32
    np.testing.assert_allclose(x[0, :, 0, 0], [1, 0, 0.1], rtol=ROUNDING / 10)
    flipped = InputFormat(mean=(0, 0, 0), std=(1, 1, 1), order="bgr")(pictures)
    np.testing.assert_allclose(flipped[0, :, 0, 0], [0.2, 0, 1], rtol=ROUNDING / 10)
    refuses("neither rgb nor bgr", InputFormat, order="rbg")
    refuses("std above 0", InputFormat, std=(1, 0, 1))


class Brightest(paddle.nn.Layer):
    """Scores of three classes: the channels themselves."""

    def __init__(self):
        super().__init__()
        self.scale = self.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(2.0))

    def forward(self, x):
        return x * self.scale


PICTURES = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
PLAIN = InputFormat(mean=(0, 0, 0), std=(1, 1, 1))


def test_layer_and_function_as_predictors():
    want = PICTURES.argmax(-1)
    for model in (Brightest(), lambda x: x, lambda x: [x.argmax(1)], lambda x: x.argmax(1)[:, None]):
        predictor = FunctionPredictor(model, PLAIN)
        np.testing.assert_array_equal(class_maps(predictor(PICTURES), (4, 6)), want)
    with pytest.raises(UserError, match=r"puts out float32 \[2, 4, 6\]; expected float scores"):
        FunctionPredictor(lambda x: x[:, 0], PLAIN)(PICTURES)


@pytest.fixture
def exported(tmp_path):
    """An exported network's path without ending, and its program."""
    prefix = tmp_path / "seg" / "net"
    paddle.jit.save(Brightest(), str(prefix), input_spec=[paddle.static.InputSpec([None, 3, None, None], "float32")])
    return prefix, program_file(prefix)


def test_paddle_inference_model(exported):
    prefix, program = exported
    for source in (prefix, program, prefix.with_suffix(".pdiparams")):
        predictor = load_predictor(source, PLAIN)
        np.testing.assert_array_equal(class_maps(predictor(PICTURES), (4, 6)), PICTURES.argmax(-1))
        assert len(predictor.weights_sha256) == 64 and predictor.name == "net"
    program.write_bytes(b"no program")
    refuses("is no Paddle program", load_predictor, prefix)
    program.unlink()
    refuses("net is missing: a Paddle model is", load_predictor, prefix)


def test_nothing_beside_a_paddle_model_is_run(exported, tmp_path):
    prefix, _ = exported
    for name in ("net.pdiparams.info", "net.info", "__model__.info"):
        prefix.with_name(name).write_bytes(pickle.dumps(Call(open, str(tmp_path / "was_run"), "w"), protocol=2))
    predictor = load_predictor(prefix, PLAIN)
    np.testing.assert_array_equal(class_maps(predictor(PICTURES), (4, 6)), PICTURES.argmax(-1))
    assert not (tmp_path / "was_run").exists()


def test_unknown_operations_are_refused_by_name(exported):
    prefix, program = exported
    content = program.read_bytes()  # the names are of one length, for .pdmodel
    program.write_bytes(
        content.replace(b"1.multiply", b"1.run_any_program").replace(b"elementwise_mul", b"run_any_program")
    )
    refuses(r"not known to be harmless \(run_any_program\)", load_predictor, prefix)


def test_a_program_that_writes_a_file_is_refused(exported, tmp_path, monkeypatch):
    """One that would: with the operation allowed, it does."""
    prefix, program = exported
    program.unlink()
    written = tmp_path / "written"
    paddle.enable_static()
    try:
        # Paddle 3 writes .json itself, and still runs .pdmodel files, which it makes under this guard.
        with getattr(paddle.pir_utils, "OldIrGuard", contextlib.nullcontext)():
            whole = paddle.static.Program()
            with paddle.static.program_guard(whole, paddle.static.Program()):
                x = paddle.static.data("x", [-1, 3, -1, -1])
                y = x * paddle.create_parameter([1], "float32")
            whole = paddle.static.normalize_program(whole, [x], [y])
            attributes = {"file_path": str(written), "overwrite": True}
            whole.global_block().append_op(type="save", inputs={"X": [y.name]}, attrs=attributes)
            prefix.with_suffix(".pdmodel").write_bytes(whole.desc.serialize_to_string())
    finally:
        paddle.disable_static()
    refuses(r"not known to be harmless \(save\)", load_predictor, prefix)
    assert not written.exists()
    monkeypatch.setattr(predictors, "NETWORK_OPERATIONS", predictors.NETWORK_OPERATIONS | {"save"})
    load_predictor(prefix, PLAIN)(PICTURES)
    assert written.exists()


def test_python_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def build():\n    return lambda x: x\n")
    predictor = load_predictor(f"{file}:build", PLAIN)
    np.testing.assert_array_equal(class_maps(predictor(PICTURES), (4, 6)), PICTURES.argmax(-1))
    assert (predictor.name, predictor.weights_sha256) == ("mine:build", "unknown")
    refuses("no function nothing", load_predictor, f"{file}:nothing")
    refuses("mine.py:NAME", load_predictor, file)


def test_missing_models_are_told(tmp_path):
    refuses("is not a file", load_predictor, tmp_path / "a.onnx")
    refuses("is missing: a Paddle model is", load_predictor, tmp_path / "a.pdmodel")
    refuses("is not a file", load_predictor, f"{tmp_path / 'a.py'}:build")


def test_without_onnxruntime_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "a.onnx").write_bytes(b"")
    refuses("pip install onnxruntime", load_predictor, tmp_path / "a.onnx")


@pytest.mark.parametrize("batch", ["n", 1])
def test_onnx_model_with_a_free_or_a_fixed_batch(tmp_path, batch):
    """Of two outputs, of which the first are scores: its input's positive part."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    shape = [batch, 3, "h", "w"]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y", "z")]
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"]), onnx.helper.make_node("Neg", ["x"], ["z"])]
    graph = onnx.helper.make_graph(nodes, "seg", values[:1], values[1:])
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(tmp_path / "seg.onnx"))
    predictor = load_predictor(tmp_path / "seg.onnx", PLAIN)
    np.testing.assert_array_equal(class_maps(predictor(PICTURES), (4, 6)), PICTURES.argmax(-1))


def test_what_is_no_onnx_model_is_told(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    refuses("cannot be read as an ONNX model", load_predictor, tmp_path / "bad.onnx")
