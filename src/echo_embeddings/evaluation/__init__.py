"""How good vectors are: data sets of judged pairs and of queries, and the scores of the field.

Knows no command line.
"""
