"""Many runs from one suite file, on processes of this machine or a Ray cluster."""
