"""Scores of track ids against a ground truth."""

from trackd.evaluation.identity import IdentityScore, IdentityScoring

__all__ = ["IdentityScore", "IdentityScoring"]
