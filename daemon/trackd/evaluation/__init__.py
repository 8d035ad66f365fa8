"""How well track ids follow the ground truth."""

from trackd.evaluation.identity import IdentityScore, IdentityScoring

__all__ = ["IdentityScore", "IdentityScoring"]
