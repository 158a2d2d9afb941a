"""What authors of families test with. `suite.FamilySuite` is inherited, `report.run` needs no pytest."""
