"""What a run says: moving statistics, upscaling response, validity, elasticity, inference. Pure: runs and frames in."""
