"""The engine trains as a textbook loop would, counts exactly, and writes nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resnet_cli.data import open_data
from resnet_cli.data.batches import DeviceImages, Normalizer, crop_and_flip, draw_epoch
from resnet_cli.data.dataset import Images
from resnet_cli.device import decide
from resnet_cli.dist import Ranks
from resnet_cli.engine import Engine, EpochRecord, InitialRecord, StepEvent, combine_batches, evaluate
from resnet_cli.engine.evaluate import BatchLogits
from resnet_cli.engine.sums import EpochSums
from resnet_cli.errors import DivergedError
from resnet_cli.model import build_model, weighted_layers
from resnet_cli.optim import lr_at
from resnet_cli.recipes import make_config

CPU = torch.device("cpu")


def engine_for(**overrides):
    values = {
        "arch": "resnet", "depth": 8, "limit_train": 300, "limit_test": 70, "epochs": 2, "device": "cpu", "lr": 0.03,
        "warmup_steps": 0,
    }  # fmt: skip
    config = make_config("demo", **{**values, **overrides})
    return Engine(config, open_data(config), decide(config))


def records_of(engine):
    return [event for event in engine.run() if isinstance(event, EpochRecord)]


def textbook_losses(config, dataset):
    """The slow, obvious loop: default memory layout, one optimizer without fusion, loss read every step."""
    model = build_model(config.arch, config.depth, config.shortcut, seed=config.seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=1e-4)
    normalizer = Normalizer.for_dataset(dataset, config.normalization, CPU)
    pixels, labels = torch.from_numpy(dataset.train.pixels), torch.from_numpy(dataset.train.labels)
    means, step = [], 0
    for epoch in range(1, config.epochs + 1):
        draws = draw_epoch(len(labels), config.augment, seed=config.seed, epoch=epoch, device=CPU)
        total, wrong = 0.0, 0
        for chosen in torch.arange(len(labels)).split(config.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = lr_at(step, config, len(labels))
            order = draws.order[chosen]
            batch = normalizer(crop_and_flip(pixels[order], draws.shift[chosen], draws.flip[chosen])).contiguous()
            logits = model(batch)
            loss = F.cross_entropy(logits, labels[order])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
            wrong += (logits.argmax(1) != labels[order]).sum().item()
            step += 1
        means.append((total / len(labels), 100 * wrong / len(labels)))
    return means


@pytest.mark.parametrize(("arch", "augment"), [("plain", "crop-flip"), ("resnet", "none")])
def test_training_agrees_with_a_textbook_loop(arch, augment):
    engine = engine_for(arch=arch, augment=augment, milestones=(1,))
    config = engine.config
    ours = [(r.metrics.train_loss, r.metrics.train_error_pct) for r in records_of(engine)]
    theirs = textbook_losses(config, open_data(config))
    assert [loss for loss, _ in ours] == pytest.approx([loss for loss, _ in theirs], rel=2e-4)
    assert [error for _, error in ours] == pytest.approx([error for _, error in theirs], abs=0.7)


def test_the_engine_yields_an_event_after_every_step_and_every_evaluated_batch():
    engine = engine_for(epochs=1, clean_train_every=0)
    events = list(engine.run())
    ticks = [event for event in events if isinstance(event, StepEvent)]
    assert [(t.phase, t.done, t.total, t.step) for t in ticks] == [
        ("train", 128, 300, 1), ("train", 256, 300, 2), ("train", 300, 300, 3),
        ("evaluate", 250, 300, 3), ("evaluate", 300, 300, 3), ("evaluate", 70, 70, 3),
    ]  # fmt: skip
    assert isinstance(events[-1], EpochRecord)


def test_a_run_measured_in_steps_ends_at_its_step_in_the_middle_of_an_epoch():
    engine = engine_for(epochs=None, steps=4, milestones=())
    records = records_of(engine)
    assert [r.metrics.step for r in records] == [3, 4]
    assert engine.is_finished


def test_clean_training_error_is_measured_when_due_and_at_the_end():
    records = records_of(engine_for(epochs=5, clean_train_every=2))
    measured = [r.metrics.epoch for r in records if r.metrics.train_clean_error_pct is not None]
    assert measured == [2, 4, 5]


def test_clean_training_error_is_measured_with_the_final_network_and_without_augmentation():
    engine = engine_for(augment="crop-flip", epochs=1)
    (record,) = records_of(engine)
    result = evaluate(engine.model, engine.train_images, engine.normalizer, engine.setup)
    assert record.metrics.train_clean_error_pct == result.error_pct
    assert record.metrics.train_clean_loss == pytest.approx(result.loss, rel=1e-12)


def test_best_is_selected_on_validation_images_when_there_are_some():
    engine = engine_for(val_size=60, epochs=1)
    (record,) = records_of(engine)
    assert record.metrics.selection_error_pct() == record.metrics.val_error_pct
    assert engine.num_train == 240


def test_a_partial_last_batch_counts_by_its_images_and_not_as_a_whole_batch():
    right, wrong = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    labels = torch.zeros(501, dtype=torch.int64)
    whole = combine_batches([BatchLogits(right.repeat(500, 1), labels[:500]), BatchLogits(wrong, labels[500:])])
    assert whole.num_examples == 501
    assert whole.error_pct == 100 * 1 / 501
    assert whole.accuracy_pct == 100 * 500 / 501
    losses = [F.cross_entropy(logits, labels[:1]).item() for logits in (right, wrong)]
    assert whole.loss == pytest.approx((500 * losses[0] + losses[1]) / 501, rel=1e-6)


def test_evaluation_leaves_the_network_as_it_was():
    engine = engine_for()
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    evaluate(engine.model, engine.test_images, engine.normalizer, engine.setup)
    assert all(torch.equal(before[name], value) for name, value in engine.model.state_dict().items())


def test_gradient_flow_is_measured_at_initialisation_and_after_every_due_epoch():
    engine = engine_for(epochs=2, gradflow_every=2)
    initial, first, second = (event for event in engine.run() if not isinstance(event, StepEvent))
    assert isinstance(initial, InitialRecord)
    assert {(row.epoch, row.update_to_weight_ratio) for row in initial.gradflow} == {(0, None)}
    assert first.gradflow == []
    assert {row.epoch for row in second.gradflow} == {2}
    layers = weighted_layers(engine.model)
    assert [row.layer for row in second.gradflow] == [layer.name for layer in layers]
    for row, layer in zip(second.gradflow, layers, strict=True):
        weight = layer.module.weight
        assert row.weight_norm == pytest.approx(weight.detach().norm().item(), rel=1e-6)
        moved = engine.config.lr * engine.optimizer.state[weight]["momentum_buffer"].norm().item()
        assert row.update_to_weight_ratio == pytest.approx(moved / weight.detach().norm().item(), rel=1e-5)


def test_the_update_to_weight_ratio_is_the_relative_distance_that_a_step_moved_the_weights():
    # the learning rate drops right after the step
    engine = engine_for(epochs=1, gradflow_every=1, limit_train=128, milestones=(1,), warmup_steps=0)
    before = engine.model.conv1.weight.detach().clone()
    (record,) = records_of(engine)
    moved = (engine.model.conv1.weight.detach() - before).norm() / engine.model.conv1.weight.detach().norm()
    assert record.gradflow[0].update_to_weight_ratio == pytest.approx(moved.item(), rel=1e-4)
    assert record.metrics.lr == engine.config.lr


def test_measuring_gradient_flow_does_not_change_the_training():
    measured, plain = (records_of(engine_for(epochs=2, gradflow_every=every)) for every in (1, 0))
    assert [row.metrics.train_loss for row in measured] == [row.metrics.train_loss for row in plain]
    assert [row.metrics.test_loss for row in measured] == [row.metrics.test_loss for row in plain]


def test_the_clean_error_is_measured_on_a_fixed_subset_before_the_last_epoch_and_on_all_images_after_it():
    engines = [engine_for(clean_train_every=1, clean_train_images=50, seed=seed) for seed in (0, 1)]
    assert torch.equal(engines[0].clean_images.pixels, engines[1].clean_images.pixels)
    assert torch.bincount(engines[0].clean_images.labels).tolist() == [5] * 10
    first, last = records_of(engines[0])
    assert (first.metrics.train_clean_images, last.metrics.train_clean_images) == (50, 300)
    assert engine_for(clean_train_images=1000).clean_images is not None


def test_the_first_step_whose_loss_is_not_finite_is_kept():
    sums, none_wrong = EpochSums(CPU), torch.zeros((), dtype=torch.int64)
    for loss in (1.0, float("nan"), float("inf"), 1.0):
        sums.add(torch.tensor(loss), none_wrong)
    assert sums.is_bad
    assert int(sums.first_bad_step) == 1


def test_training_stops_at_the_first_step_whose_loss_is_not_finite_and_names_it():
    engine = engine_for(lr=1e6, epochs=20, arch="plain", depth=20)
    with pytest.raises(DivergedError, match=r"at step \d+ \(epoch \d+, lr 1e\+06\)") as caught:
        list(engine.run())
    step = int(engine.sums.first_bad_step)
    assert f"at step {step} " in str(caught.value)
    assert engine.step == step + 1


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("part", ["weight", "momentum"])
def test_a_network_that_is_not_finite_after_the_last_step_of_an_epoch_has_diverged_at_that_step(part, value):
    engine = engine_for()
    for event in engine.run():
        if isinstance(event, StepEvent) and event.step == 3:
            break
    weight = engine.model.fc.weight
    values = weight.data if part == "weight" else engine.optimizer.state[weight]["momentum_buffer"]
    values[0, 0] = value
    with pytest.raises(DivergedError, match="at step 2 "):
        list(engine.run())


def test_a_test_loss_that_overflows_while_the_network_is_finite_does_not_end_the_run():
    engine = engine_for(epochs=1)
    for event in engine.run():
        if isinstance(event, StepEvent) and event.step == 3:
            break
    engine.model.fc.weight.data.mul_(1e38)  # finite weights, infinite outputs
    (record,) = records_of(engine)
    assert not np.isfinite(record.metrics.test_loss)
    assert engine.is_finished


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not():
    first, again, other = (records_of(engine_for(seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a.test_logits, b.test_logits) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[-1].test_logits, other[-1].test_logits)


def test_bf16_trains_close_to_fp32():
    exact, rounded = (records_of(engine_for(precision=p, epochs=1))[0].metrics for p in ("fp32", "bf16"))
    assert rounded.train_loss == pytest.approx(exact.train_loss, rel=0.05)
    assert rounded.train_loss != exact.train_loss


def test_test_logits_are_in_dataset_order():
    engine = engine_for(epochs=1)
    (record,) = records_of(engine)
    images = DeviceImages.on(CPU, Images(engine.test_images.pixels[:5].numpy(), np.arange(5)))
    first_five = evaluate(engine.model, images, engine.normalizer, engine.setup).logits
    torch.testing.assert_close(record.test_logits[:5], first_five)


class Silent(Ranks):
    """A process that receives nothing from the others."""

    def all_reduce_sum(self, tensors):
        """Nothing to add."""


def test_a_process_without_an_image_in_its_first_step_can_scale_its_loss():
    config = make_config("demo", arch="plain", depth=8, limit_train=20, limit_test=10, device="cpu")
    engine = Engine(config, open_data(config), decide(config, ranks=Silent(1, 2, 1)))
    engine.scaler = torch.amp.GradScaler("cpu")
    engine._build_steps()
    draws = draw_epoch(20, "none", seed=0, epoch=1, device=CPU)
    loss = engine._partial_step(draws.order[:1], draws.shift[:1], draws.flip[:1])
    assert loss == 0
