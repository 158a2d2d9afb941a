from xlm_core.testing.suite import FamilySuite


class TestConformance(FamilySuite):
    family = "minimal"
