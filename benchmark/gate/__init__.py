"""The regression gate: are attacks as strong, and victims as accurate, as they were?"""
