"""Self-supervised objectives: functions of tensors, and modules that add the heads."""

from vididi.objectives.byol import BYOL, byol_regression
from vididi.objectives.corp import CORPf, CORPm, corp_f_loss, corp_m_loss
from vididi.objectives.cvrl import CVRL, nt_xent
from vididi.objectives.heads import DecouplingAttention, MixedAttention
from vididi.objectives.objective import Objective
from vididi.objectives.simclr import SimCLR, info_nce
from vididi.objectives.vicreg import VICReg, vicreg_terms

OBJECTIVES: dict[str, type[Objective]] = {
    "simclr": SimCLR,
    "byol": BYOL,
    "vicreg": VICReg,
    "cvrl": CVRL,
    "corp_f": CORPf,
    "corp_m": CORPm,
}

__all__ = [
    "BYOL",
    "CVRL",
    "OBJECTIVES",
    "CORPf",
    "CORPm",
    "DecouplingAttention",
    "MixedAttention",
    "Objective",
    "SimCLR",
    "VICReg",
    "byol_regression",
    "corp_f_loss",
    "corp_m_loss",
    "info_nce",
    "nt_xent",
    "vicreg_terms",
]
