"""How close a synthetic set is to the real one: table, images, and the tie between them.

Every figure here is computed on real records and is not differentially private: it stays in the
private zone. Each comes with the two values it is read between: what unrelated pairs would give
(floor) and what as many real pairs give (ceiling). Training the released model, and public
quality figures, do not belong here.
"""
