"""Self-supervised objectives: functions of tensors, and modules that add the heads."""

from vididi.objectives.objective import Objective
from vididi.objectives.vicreg import VICReg, vicreg_terms

OBJECTIVES = {"vicreg": VICReg}

__all__ = ["OBJECTIVES", "Objective", "VICReg", "vicreg_terms"]
