"""An encoder on clips: features, and each clip's nearest neighbour among the others.

It is the encoder of a run folder, such as the one of pretrain.py.
"""

import sys

import torch
from torch.nn.functional import normalize

from vididi import load_encoder
from vididi.data.motion import LAWS, SCENES, render_video
from vididi.views.operations import normalise

if __name__ == "__main__":
    # In evaluation mode. The path may also be a URI, s3://bucket/runs/...
    encoder = load_encoder(sys.argv[1] if len(sys.argv) > 1 else "runs/example")

    # Videos of four laws of motion in two scenes: [T, H, W, 3], uint8.
    # Yours may come from any decoder.
    names = [(law, scene) for law in list(LAWS)[:4] for scene in list(SCENES)[:2]]
    videos = [render_video(law, scene, 32, 4, seed=i) for i, (law, scene) in enumerate(names)]

    # The encoder takes [B, 3, T, H, W], normalised as in pretraining.
    clips = torch.stack([torch.from_numpy(video).permute(3, 0, 1, 2) for video in videos])
    with torch.no_grad():
        features = encoder(normalise(clips / 255))  # [B, D]
    print(f"clips {list(clips.shape)} -> features {list(features.shape)}")

    # Cosine similarity, [B, B]; a clip is not its own neighbour.
    similarity = normalize(features) @ normalize(features).T
    nearest = similarity.fill_diagonal_(-1).argmax(dim=1)
    for name, other in zip(names, nearest.tolist(), strict=True):
        print(f"{' in '.join(name)}: nearest is {' in '.join(names[other])}")
