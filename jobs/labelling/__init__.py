"""What the label stage is made of: the student's pass, the LLM's waves, the decision between them."""
