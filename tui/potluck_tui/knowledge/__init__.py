"""What is known of models in general: data files, and what is read from them."""
