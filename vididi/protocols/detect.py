"""Measuring by a detector that is trained on the encoder: what the persons in given boxes do, or in
proposed ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vididi.backbones import Backbone
from vididi.backbones.weights import file_sha256
from vididi.components import make_optimiser
from vididi.config import EVALUATION_BATCH
from vididi.data.boxes import KeyFrames
from vididi.data.plan import Chain, KeyFramePlan, Plan, frame_counts
from vididi.data.shards import ShardSet
from vididi.data.stream import Batch
from vididi.errors import DataError
from vididi.evaluation import AvaMap, AvaRows, ava_map, detection
from vididi.evaluation.ava_files import read_proposals
from vididi.finite import check_weights
from vididi.interrupts import check, gently
from vididi.protocols.settings import DetectionSettings
from vididi.protocols.task import EvaluationResult, Task
from vididi.runs.file_names import PREDICTIONS
from vididi.runs.run_folder import RunFolder, replacing
from vididi.runs.trust import newest_checkpoint
from vididi.training.context import Context
from vididi.training.stop_request import StopRequest


@dataclass
class _Attempt:
    """A detector that is being trained: how many epochs were, what the tests so far gave, and the
    losses of an epoch that was begun.
    """

    model: detection.Detector
    optimiser: Optimizer
    trained: int
    scores: list[float]
    so_far: Tensor | None = None

    @classmethod
    def restored(
        cls,
        model: detection.Detector,
        optimiser: Optimizer,
        folder: RunFolder,
        context: Context,
    ) -> _Attempt:
        """From wherever an earlier one got to."""
        folder.path.mkdir(parents=True, exist_ok=True)
        checkpoint = newest_checkpoint(folder, context)
        if checkpoint is None:
            return cls(model, optimiser, 0, [])
        model.load_state_dict(checkpoint["model"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        so_far = checkpoint.get("so_far")
        return cls(model, optimiser, checkpoint["epoch"], checkpoint["scores"], so_far)

    def save(self, folder: RunFolder) -> None:
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        how_far = {"epoch": self.trained, "scores": self.scores, "so_far": self.so_far}
        folder.save_checkpoint({**state, **how_far})

    def train(
        self,
        batches: Iterator[Batch],
        key_frames: KeyFrames,
        fit: detection.DetectorFit,
        folder: RunFolder,
        request: StopRequest,
    ) -> dict[str, Any]:
        """Train the next epoch, and keep it. Returns its metrics.

        Raises:
            AskedToStop: it was asked to end, and what was trained of the epoch is kept.
        """

        def on_step(so_far: Tensor) -> None:
            if request.heard():
                self.so_far = so_far
                request.end(lambda: self.save(folder))

        with gently():
            given = self.model, self.optimiser, batches, key_frames, fit, self.trained
            metrics = detection.train_epoch(*given, on_step, self.so_far)
            self.trained, self.so_far = self.trained + 1, None
            self.save(folder)
        return metrics


def measure_detection(
    task: Task, encoder: nn.Module, width: int, folder: RunFolder
) -> EvaluationResult:
    """Train a detector from wherever an earlier attempt got to, and test it as the settings say."""
    s, key_frames = task.settings, KeyFrames.of(task.shards)
    train, test = key_frame_plans(s, task.shards, key_frames)
    proposed = None if s.boxes is None else proposed_boxes(s, key_frames, test)
    fit = detection.DetectorFit(
        len(train[0]), s.warmup_epochs, s.steps, s.factor, s.size, s.flip, s.seed, s.precision
    )

    assert isinstance(encoder, Backbone)
    torch.manual_seed(s.seed)
    model = detection.Detector(encoder, width, len(key_frames.actions), s.dropout).to(task.device)
    attempt = _Attempt.restored(model, make_optimiser(s.optimiser, model), folder, task.context)

    tested = key_frames if proposed is None else proposed.key_frames
    result, predicted = _train_and_test(task, attempt, fit, key_frames, tested, train, test, folder)
    with replacing(folder.path / PREDICTIONS) as path:
        detection.write_predictions(path, predicted)
    return _detected(s, attempt.scores, result, {"train": train[0], "test": test}, proposed)


def _train_and_test(
    task: Task,
    attempt: _Attempt,
    fit: detection.DetectorFit,
    key_frames: KeyFrames,
    in_boxes: KeyFrames,
    train: list[KeyFramePlan],
    test: KeyFramePlan,
    folder: RunFolder,
) -> tuple[AvaMap, AvaRows]:
    """The epochs that are left: what the last one's test gave, and its predictions.

    Tests are made ``in_boxes``, which may be other ones than the annotation's of ``key_frames``.

    A checkpoint is written after training an epoch and before testing it, so what was interrupted
    goes on with that test; or, where it was asked to end amid an epoch, after a step of it.
    """
    s, model = task.settings, attempt.model
    tested = [s.test == "each" or epoch == s.epochs for epoch in range(1, s.epochs + 1)]
    parts: list[Plan] = [
        part
        for plan, then in zip(train, tested, strict=True)
        for part in (plan, test if then else Chain(()))
    ]

    begun = 0 if attempt.so_far is None else len(attempt.so_far)
    first = attempt.trained if begun else max(0, attempt.trained - 1)
    begin = sum(map(len, parts[: 2 * first + (attempt.trained > first)])) + begun
    batches = task.open_stream(Chain(tuple(parts)), begin)
    request = StopRequest(task.context)
    truth = detection.true_rows(key_frames, key_frames.boxes_of(test.rows)[0])

    for epoch in range(first, s.epochs):
        if epoch >= attempt.trained:
            task.report(attempt.train(batches, key_frames, fit, folder, request))
            check()
        check_weights("the detector", model)
        if tested[epoch]:
            boxes, scores = detection.predict_boxes(
                model, batches, len(test), in_boxes, s.size, task.device
            )
            predicted = detection.predicted_rows(in_boxes, boxes, scores)
            result = ava_map(truth, predicted, key_frames.actions, limit=s.limit or None)
            attempt.scores = [*attempt.scores, result.mean]
    return result, predicted


def _detected(
    s: DetectionSettings,
    scores: list[float],
    result: AvaMap,
    plans: dict[str, KeyFramePlan],
    proposed: detection.Proposed | None,
) -> EvaluationResult:
    """The last epoch's result.

    The best epoch is chosen by the test set, as ViDiDi E.6 does, so it has a name of its own.
    """
    metrics = {"detection/mAP": scores[-1]}
    if s.test == "each":
        best = int(np.argmax(scores))
        metrics |= {"detection/best_mAP": scores[best], "detection/best_epoch": best + 1}

    cut = {split: plan.cut for split, plan in plans.items()}
    notes = [
        f"{count:,} of {len(plans[split].rows):,} {split} clips reach beyond the frames round their"
        " key frame, which are repeated"
        for split, count in cut.items()
        if count
    ]

    each = {
        action.name: action.average_precision for action in result.actions if action.ground_truth
    }
    ava = {key: value for key, value in result.to_dict().items() if key not in ("version", "mAP")}
    dropped = len(plans["train"].rows) % plans["train"].batch_size
    details = {
        "mAP_by_epoch": scores,
        "clips_cut": cut,
        "key_frames_dropped_per_epoch": dropped,
        "ava": ava,
    }
    if proposed is not None:
        details["boxes"] = proposed.counts
        notes += proposed.notes
    return EvaluationResult(metrics, None, each, {**details, "notes": [*notes, *result.notes]})


def proposed_boxes(
    s: DetectionSettings, key_frames: KeyFrames, test: KeyFramePlan
) -> detection.Proposed:
    """The boxes of the settings' file, for the key frames of a test.

    Raises:
        DataError: the file cannot be read, is malformed, is not what it was when the settings were
            completed, or has no box of such a key frame.
    """
    assert s.boxes is not None
    assert s.boxes_sha256 is not None
    assert s.box_score is not None
    path = Path(s.boxes)
    try:
        same = file_sha256(path) == s.boxes_sha256
        proposals = read_proposals(path, s.box_score)
    except OSError as error:
        raise DataError(f"boxes: {path} cannot be read: {error.strerror}") from None
    except DataError as error:
        raise DataError(f"boxes: {error}") from None
    if not same:
        raise DataError(f"boxes: {path} was {s.boxes_sha256} and has changed since")
    proposed = detection.propose(key_frames, test.rows, proposals)
    if not proposed.counts["tested"]:
        raise DataError(
            f"boxes: {path} has no box with a score of {s.box_score:g} or more in a key frame that"
            f" is tested; of its {proposals.lines} lines {proposals.below_score} are below it"
        )
    return proposed


def key_frame_plans(
    s: DetectionSettings, shards: ShardSet, key_frames: KeyFrames
) -> tuple[list[KeyFramePlan], KeyFramePlan]:
    """The key frames with boxes: to train on, shuffled anew for each epoch, and to test on.

    Raises:
        DataError: there are fewer than make a batch, the boxes of a split show no action that is
            scored, or the frames that the set keeps are further apart than the stride.
    """
    assert s.frames
    assert s.stride
    counts, step = frame_counts(shards), int(shards.manifest.source.get("step", 1))
    if s.stride % step:
        raise DataError(
            f"stride: {s.stride} is not a multiple of {step}; {shards.root} keeps one of every"
            f" {step} frames"
        )

    rows = {split: shards.rows(split) for split in ("train", "test")}
    rows = {
        split: of_split[key_frames.key_frame[of_split] >= 0] for split, of_split in rows.items()
    }
    for split, of_split in rows.items():
        if not key_frames.targets[key_frames.boxes_of(of_split)[0]].any():
            raise DataError(
                f"{shards.root}: no box of split {split} shows an action that is evaluated"
            )
    if len(rows["train"]) < s.batch_size:
        raise DataError(
            f"batch_size: {s.batch_size} is more than the {len(rows['train'])} training key frames"
        )

    clip = (key_frames.key_frame, counts, s.frames, s.stride // step)
    train = [
        KeyFramePlan(rows["train"], *clip, s.batch_size, (s.seed, epoch))
        for epoch in range(s.epochs)
    ]
    return train, KeyFramePlan(rows["test"], *clip, EVALUATION_BATCH)
