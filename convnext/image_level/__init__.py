"""What tasks have in common that answer for a picture as a whole: classification and regression."""
