"""One run on several processes, a GPU each: all run the whole program, and victims share batches."""
