"""A schedule by hand: which derivatives a step's two views are, and what a derivative is."""

import torch

from vididi.views import SCHEDULES, differentiate

EPOCHS, STEPS_PER_EPOCH = 4, 3

if __name__ == "__main__":
    # A pair follows from (seed, epoch, step) alone, so every worker has the same one.
    # The step counts on from epoch to epoch.
    for epoch in range(EPOCHS):
        steps = range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH)
        pairs = [SCHEDULES["vididi"].pair(epoch, step, seed=0) for step in steps]
        print(f"epoch {epoch}: " + "  ".join(f"{a} with {b}" for a, b in pairs))

    # One clip, [B, C, T, H, W], of one pixel whose value is t squared.
    clip = torch.arange(6.0).square().view(1, 1, 6, 1, 1)
    for order, name in enumerate(("frames", "velocity", "acceleration")):
        # An order of k takes k frames off the clip.
        print(f"order {order}, {name}: {differentiate(clip, order).flatten().tolist()}")

    # The two views of a step are two clips of one video, each differentiated to its order.
    order_a, order_b = SCHEDULES["vididi"].pair(epoch=1, step=3, seed=0)
    clip_a, clip_b = torch.randn(2, 8, 3, 6, 16, 16)  # each [B, C, T, H, W]
    view_a, view_b = differentiate(clip_a, order_a), differentiate(clip_b, order_b)

    # In training every view has T frames, whatever its order (vididi.views.make_view).
    shapes = f"{list(view_a.shape)} and {list(view_b.shape)}"
    print(f"views of orders {order_a} and {order_b}: {shapes}")
